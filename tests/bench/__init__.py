"""Measurements; ``python -m tests.bench``. One module for each subject; they measure, and judge nothing."""
