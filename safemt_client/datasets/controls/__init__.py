"""Controls: dialogues made of a user's own ones by a recipe, to tell what an effect is due to."""
