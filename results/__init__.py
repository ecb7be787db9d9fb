"""What is known: the DuckDB store, its views, the metrics and the reports."""
