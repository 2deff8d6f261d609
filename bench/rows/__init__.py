"""The measurements, a module for each group of rows; a new module here is found by itself."""
