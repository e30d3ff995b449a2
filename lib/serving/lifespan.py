"""What lasts as long as the service: the watch for drift, and an interpreter set for many small requests."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Watch for drift; collect garbage less often: it took 9 % of the time, and 40 ms with what is loaded now.

    Threads take turns more often than every 5 ms: the one that runs the network waits for its turn ten times a batch.
    """
    watching, thresholds = asyncio.create_task(app.state.service.watch_drift()), gc.get_threshold()
    interval = sys.getswitchinterval()
    gc.freeze()
    gc.set_threshold(20_000)
    sys.setswitchinterval(0.0002)
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    watching.cancel()
