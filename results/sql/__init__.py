"""SQL for people: the shell, statements, output and the generated reference."""
