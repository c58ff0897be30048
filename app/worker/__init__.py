"""Jobs at work: the supervisor in the server, and the process that it starts for each job."""
