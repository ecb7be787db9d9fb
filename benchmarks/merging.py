"""What it takes to merge stores, by how many they are: per store it should be the same.

    python benchmarks/merging.py [--items 400] [--stores 2,4,8]

Each store has five targets with as many items at five lengths, texts of 1 KB, and rows that no other has.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import duckdb

from benchmarks.large_store import Size, make
from safemt_client.results.store.merging import merge


def measure(folder: Path, stores: list[Path], count: int) -> str:
    """Merge so many of the stores; what it took."""
    wall, work = time.perf_counter(), time.process_time()
    found = merge(folder / f"all-{count}.duckdb", stores[:count])
    wall, work = time.perf_counter() - wall, time.process_time() - work
    rows = sum(one.added for one in found)
    each = f"{wall / count:.2f} s and {work / count:.2f} CPU s for each"
    return f"{count} stores: {rows:,} rows in {wall:.1f} s, {each}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--stores", default="2,4,8")
    arguments = parser.parse_args()
    counts = [int(word) for word in arguments.stores.split(",")]
    with TemporaryDirectory() as name:
        folder = Path(name)
        stores = [folder / f"{place}.duckdb" for place in range(max(counts))]
        make(stores[0], Size(targets=5, items=arguments.items))
        for place, path in enumerate(stores[1:], 1):
            shutil.copyfile(stores[0], path)
            with duckdb.connect(path) as store:
                for table in ("turns", "verdicts", "steps"):
                    store.execute(f"UPDATE {table} SET request_hash = request_hash || '-{place}'")
        for count in counts:
            print(measure(folder, stores, count), flush=True)


if __name__ == "__main__":
    main()
