"""The stores on servers keep the contract of entity stores, each test on tables or keys of its own."""

from hashlib import blake2b

import pytest

from pecs_np import PostgresEntityPlugin, RedisEntityPlugin
from pecs_np.testing import EntityStoreContract


def name_of(tmp_path):
    return "t" + blake2b(str(tmp_path).encode(), digest_size=12).hexdigest()


class TestRedis(EntityStoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server):
        self.server = redis_server

    def make_store(self, tmp_path, **options):
        return RedisEntityPlugin(self.server.address, prefix=name_of(tmp_path), **options)


class TestPostgres(EntityStoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, postgres):
        self.server = postgres

    def make_store(self, tmp_path, **options):
        return PostgresEntityPlugin(self.server.address, table=name_of(tmp_path), **options)
