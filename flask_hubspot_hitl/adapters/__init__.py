"""Fit the extension to what other libraries call waiting for a human. None of them is needed unless it is used."""
