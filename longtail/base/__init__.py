"""What everything stands on: errors, files, parameters, random numbers, worker processes. Imports nothing of ours."""
