"""Arrays, columns of frames, dates and labels in any type, as NumPy has them; and which of them mean the same."""
