"""What people are given back: values that hold numbers, print themselves as tables and can be drawn."""
