"""Routes: read the request, call one action, show the answer."""
