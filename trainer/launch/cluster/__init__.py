"""What is asked of a cluster: the API and the objects in it."""
