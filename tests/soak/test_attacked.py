"""`make local-soak`: an hour of attacks on a fleet of four that trains, and on its bucket.

In the environment: SOAK_ATTACK_SECONDS, how long, and SOAK_SEED, which chooses the attacks and is printed.
"""

import contextlib
import json
import os
import pathlib
import random
import shutil
import time

import pytest

from tests.support.attacks import withstand
from tests.support.object_stores import Server
from tests.support.servers import BUCKET, s3_server
from trainer.core.run_dir import MANIFEST, RESULT
from trainer.output.stores.errors import StorageError

pytestmark = pytest.mark.soak

SECONDS = float(os.environ.get("SOAK_ATTACK_SECONDS", "3600"))
# Of nobody's mirror: who may write the bucket can also end a run, by taking a name that its mirror needs.
FOREIGN = (
    "checkpoints/step-backup-{}.npz",
    "checkpoints/step-{}.npz",
    "train/events.out.tfevents.backup{}",
    "validation/tfevents {}",
    "workers/{}/x/attempt-1.log",
    "workers/0/attempt-x{}.log",
    ".pieces/..{}",
    "model.keras.{}",
    "{}tfevents",
    "best/step-{}.npz",
    "export/saved_model/..{}",
    "export/saved_model/a/b/{}",
    "train/plugins/profile/x/{}",
    "code.tar.gz.{}",
    "report.html.{}",
    "result.json.{}",
)


def test_an_hour_of_attacks(tmp_path: pathlib.Path, paced_flags: list[str]) -> None:
    seed = int(os.environ.get("SOAK_SEED", str(time.time_ns() % 100_000)))
    print(f"SOAK_SEED={seed}")
    if not shutil.which("go"):  # The bucket is left out, as all real object stores are where there is no Go.
        withstand(tmp_path, paced_flags, seconds=SECONDS, seed=seed)
        return
    with s3_server(tmp_path / "s3") as address:
        server = Server("s3", address)
        store = server.store("attacked/run")

        def put_what_is_nobodys(chance: random.Random) -> None:
            key = chance.choice(FOREIGN).format(chance.randrange(1000))
            with contextlib.suppress(StorageError):  # It is there already.
                store.create(key, chance.randbytes(chance.randrange(2000)))

        count = withstand(
            tmp_path,
            paced_flags,
            seconds=SECONDS,
            seed=seed,
            output=[f"--output=s3://{BUCKET}/attacked", "--mirror_interval=1"],
            environ=server.environ(),
            attack_more=put_what_is_nobodys,
        )
        assert count["attack_more"]
        stored = server.objects("attacked/run")
        assert json.loads(stored[RESULT].data)["restarts"] == 0
        assert json.loads(stored[MANIFEST].data)["checkpoints"]
