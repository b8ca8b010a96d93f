"""The run card: read, checked, and built into the objects that it describes."""
