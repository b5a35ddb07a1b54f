"""What happens to a scene: cut cables, killed servers, a Valkey that is killed or falls silent."""

import asyncio

import asyncpg

from tests import servers
from tests.faults.scene import Scene
from tests.realtime.proxy import Proxy

AWAY_S = 1.0  # longer than the look that every process takes anyway


class Faults:
    """What happens to a scene. Each is over when the scene is whole again."""

    def __init__(self, scene: Scene, hints: Proxy | None = None, valkey: servers.Mortal | None = None) -> None:
        self.scene, self.hints, self.valkey = scene, hints, valkey

    async def cut(self) -> None:
        """Every socket of clients and devices, and every request under way."""
        self.scene.front.cut()

    async def kill_a_server(self) -> None:
        server = self.scene.servers[0]
        self.scene.servers.append(self.scene.servers.pop(0))
        server.kill()
        await asyncio.to_thread(server.start)

    async def kill_valkey(self) -> None:
        assert self.hints and self.valkey
        self.valkey.kill()
        await self.hints.down()
        await asyncio.sleep(AWAY_S)
        await self.hints.up((await asyncio.to_thread(self.valkey.start)).url)

    async def silence_the_wakeup(self) -> None:
        assert self.hints
        self.hints.freeze()
        await asyncio.sleep(AWAY_S)
        self.hints.thaw()

    async def end_the_wakeups_connections(self) -> None:
        connection = await asyncpg.connect(self.scene.database_url)
        try:
            listening = "FROM pg_stat_activity WHERE application_name = 'flotilla wake-up' AND datname = current_database()"
            await connection.execute(f"SELECT pg_terminate_backend(pid) {listening}")
        finally:
            await connection.close()
