"""The formats that are imported: a module each, whose `read` gives what its files say."""
