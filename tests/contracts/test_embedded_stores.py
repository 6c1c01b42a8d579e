"""The stores in files keep the contract of entity stores."""

import pytest

from pecs_np import LmdbEntityPlugin, SqliteEntityPlugin
from pecs_np.testing import EntityStoreContract


class TestSqlite(EntityStoreContract):
    def make_store(self, tmp_path, **options):
        return SqliteEntityPlugin(tmp_path / "entities.db", durable=False, **options)


class TestSqliteInMemory(EntityStoreContract):
    persistent = shared = "a database in memory is its object's own"

    def make_store(self, tmp_path, **options):
        return SqliteEntityPlugin(":memory:", **options)


class TestLmdb(EntityStoreContract):
    @pytest.fixture(autouse=True)
    def library(self):
        pytest.importorskip("lmdb")

    def make_store(self, tmp_path, **options):
        return LmdbEntityPlugin(tmp_path / "entities.lmdb", durable=False, **options)
