"""Migrates the sample in a process of its own: python -m tests.models.sample_app.run DATA_DIR [DATABASE_URL]."""

import asyncio
import sys
from pathlib import Path

from models.migrating import migrate
from settings import Settings

if __name__ == "__main__":
    url = sys.argv[2] if len(sys.argv) > 2 else ""
    names = asyncio.run(migrate(Settings(data_dir=Path(sys.argv[1]), database_url=url), migrations="tests.models.sample_app.steps"))
    print(",".join(names))
