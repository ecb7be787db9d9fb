"""What a reply is worth: rubrics and the judges that apply them."""
