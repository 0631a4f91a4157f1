"""Many training runs: the jobs, the processes that run them, the leaderboard."""
