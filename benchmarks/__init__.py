"""What this project is measured against. Each module is one benchmark, run by a task of its name: inv bench.NAME."""
