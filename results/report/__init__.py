"""What is known as a page or on the terminal."""
