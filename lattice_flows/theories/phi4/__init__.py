"""The one-component phi^4 theory."""
