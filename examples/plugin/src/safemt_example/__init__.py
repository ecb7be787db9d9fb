"""One plug-in of each kind for safemt-client."""
