"""The DuckDB file: its tables, views, one writer, readers beside it, checks and salvage."""
