"""Labels for replies: rubrics and the judges that apply them."""
