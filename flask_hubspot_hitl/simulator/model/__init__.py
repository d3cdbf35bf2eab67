"""What exists in the stand-in, and how it says no."""
