"""Runs the seed's RedisMessageBus as it is printed. Its source comes as the first argument, Redis' port as the second,
the rooms with a local member as the others. Lines of stdin are publications, `{"room": .., "message": ..}`; each line
of stdout is what a local member of a room was sent, `{"room": .., "text": ..}`, or `{"ready": true}` once."""

import asyncio
import json
import sys

import redis.asyncio

NAME = "seed-bus"
source, port, *rooms = sys.argv[1:]
seed = {"asyncio": asyncio, "json": json}
exec(source, seed)


def tell(line):
    print(json.dumps(line), flush=True)


class Member:
    """Stands for a WebSocket of the program that has the bus."""

    def __init__(self, room):
        self.room = room

    async def send(self, text):
        tell({"room": self.room, "text": text})


async def publish(bus):
    lines = asyncio.StreamReader()
    make = lambda: asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(make, sys.stdin)
    while line := await lines.readline():
        wanted = json.loads(line)
        await bus.publish_to_room(wanted["room"], wanted["message"])


async def main():
    client = redis.asyncio.Redis(port=int(port), client_name=NAME)
    bus = seed["RedisMessageBus"](client)
    bus.local_rooms = {room: [Member(room)] for room in rooms}
    listening = asyncio.create_task(bus.subscribe_to_rooms())
    while not listening.done():
        clients = await client.client_list(_type="pubsub")
        if any(it["name"] == NAME and it["psub"] == "1" for it in clients):
            tell({"ready": True})
            break
        await asyncio.sleep(0.01)
    publishing = asyncio.create_task(publish(bus))
    done, _ = await asyncio.wait([listening, publishing], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


asyncio.run(main())
