"""Servers of models on this machine: started with a run, watched, and stopped with it."""
