"""How fast an account may be asked, and what a request counts for."""
