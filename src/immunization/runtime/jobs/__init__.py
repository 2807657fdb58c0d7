"""How a job starts, saves its work, resumes and ends."""
