"""What will be asked, as a value, before anything is spent."""
