"""Every format of the package keeps the contract that users' own formats are held to."""

from pecs_np import BinaryPlugin, JsonPlugin
from pecs_np.testing import PluginContract


class TestColumns(PluginContract):
    def make_plugin(self, tmp_path):
        return BinaryPlugin()


class TestZstd(PluginContract):
    def make_plugin(self, tmp_path):
        return BinaryPlugin(compression="zstd")


class TestLz4(PluginContract):
    def make_plugin(self, tmp_path):
        return BinaryPlugin(compression="lz4")


class TestRecords(PluginContract):
    holds_resources = holds_world_data = "version 1 holds entities and components"
    describes_types = "version 1 names its types, and does not describe them"

    def make_plugin(self, tmp_path):
        return BinaryPlugin(version=1)


class TestRecordsOfTheCrate(TestRecords):
    def make_plugin(self, tmp_path):
        return BinaryPlugin(version=1, checksum="we")


class TestJson(PluginContract):
    detects_damage = "a text is there to be edited"

    def make_plugin(self, tmp_path):
        return JsonPlugin()


class TestPrettyJson(TestJson):
    detects_cuts = "what is behind the last brace is white space"

    def make_plugin(self, tmp_path):
        return JsonPlugin.pretty()
