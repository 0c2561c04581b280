"""The service while what it stands on breaks: the database, Redis, the connections of those who read."""
