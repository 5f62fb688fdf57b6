"""What everything stands on: errors, files, parameters, random numbers, workers, devices. Imports nothing of ours."""
