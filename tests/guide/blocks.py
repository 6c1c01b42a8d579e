"""The code blocks of the persistence guide, in its order, and the test of each.

The guide describes the library that this one brings to Python. Every block of it, diagrams too, stands here
with the test that runs its translation.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BLOCKS", "MODULES", "Block"]

MODULES = {
    "Quick Start": "test_01_quick_start",
    "Entity-Specific Persistence": "test_02_entity_persistence",
    "Binary Format": "test_03_binary_format",
    "JSON Format": "test_04_json_format",
    "Custom Plugins": "test_05_custom_plugins",
    "Transient Components": "test_06_transient_components",
    "Version Migrations": "test_07_version_migrations",
    "Performance Optimization": "test_08_performance_optimization",
    "Error Handling": "test_09_error_handling",
    "Best Practices": "test_10_best_practices",
    "Troubleshooting": "test_11_troubleshooting",
}


class Block(NamedTuple):
    """A code block of the guide.

    Attributes
    ----------
    section, title : str
        The top section that it stands in, and the heading next above it.
    ordinal : int
        From 1 in each section.
    language : {"rust", "text", "json"}
    test : str
        The function in the section's module of `MODULES`.
    """

    section: str
    ordinal: int
    title: str
    language: str
    test: str


BLOCKS = (
    Block("Quick Start", 1, "Basic Save and Load", "rust", "test_basic_save_and_load"),
    Block("Quick Start", 2, "Format-Specific Operations", "rust", "test_format_specific_operations"),
    Block("Quick Start", 3, "Streaming API", "rust", "test_streaming_api"),
    Block("Entity-Specific Persistence", 1, "Quick Start", "rust", "test_quick_start"),
    Block(
        "Entity-Specific Persistence",
        2,
        "EntityPersistencePlugin Trait",
        "rust",
        "test_entity_persistence_plugin_trait",
    ),
    Block(
        "Entity-Specific Persistence",
        3,
        "Built-in Plugin: KeyValueEntityPlugin",
        "rust",
        "test_built_in_plugin",
    ),
    Block(
        "Entity-Specific Persistence",
        4,
        "Using with PersistenceManager",
        "rust",
        "test_using_with_persistence_manager",
    ),
    Block("Entity-Specific Persistence", 5, "Batch Operations", "rust", "test_batch_operations"),
    Block(
        "Entity-Specific Persistence",
        6,
        "Custom Entity Persistence Plugin",
        "rust",
        "test_custom_entity_persistence_plugin",
    ),
    Block(
        "Entity-Specific Persistence",
        7,
        "Example 1: Player Inventory System",
        "rust",
        "test_player_inventory_system",
    ),
    Block(
        "Entity-Specific Persistence",
        8,
        "Example 2: Chunk-Based World Loading",
        "rust",
        "test_chunk_based_world_loading",
    ),
    Block("Entity-Specific Persistence", 9, "Example 3: Auto-Save System", "rust", "test_auto_save_system"),
    Block("Binary Format", 1, "Format Structure", "text", "test_format_structure"),
    Block("Binary Format", 2, "Magic Bytes", "rust", "test_magic_bytes"),
    Block("Binary Format", 3, "Version Number", "rust", "test_version_number"),
    Block("Binary Format", 4, "Format Flags", "rust", "test_format_flags"),
    Block("Binary Format", 5, "Data Integrity", "rust", "test_data_integrity"),
    Block("Binary Format", 6, "Binary Format Usage", "rust", "test_binary_format_usage"),
    Block("JSON Format", 1, "Format Structure", "json", "test_format_structure"),
    Block("JSON Format", 2, "JSON Format Usage", "rust", "test_json_format_usage"),
    Block("Custom Plugins", 1, "Plugin Trait", "rust", "test_plugin_trait"),
    Block("Custom Plugins", 2, "Example: MessagePack Plugin", "rust", "test_messagepack_plugin"),
    Block("Custom Plugins", 3, "Example: Database Plugin", "rust", "test_database_plugin"),
    Block("Transient Components", 1, "Quick Example", "rust", "test_quick_example"),
    Block("Version Migrations", 1, "Migration Trait", "rust", "test_migration_trait"),
    Block("Version Migrations", 2, "Example Migration", "rust", "test_example_migration"),
    Block("Version Migrations", 3, "Migration Chain", "rust", "test_migration_chain"),
    Block("Performance Optimization", 1, "Pre-allocation", "rust", "test_pre_allocation"),
    Block(
        "Performance Optimization",
        2,
        "Streaming for Large Worlds",
        "rust",
        "test_streaming_for_large_worlds",
    ),
    Block("Performance Optimization", 3, "Selective Persistence", "rust", "test_selective_persistence"),
    Block("Performance Optimization", 4, "Compression (Future)", "rust", "test_compression"),
    Block("Error Handling", 1, "Error Types", "rust", "test_error_types"),
    Block("Error Handling", 2, "Error Handling Patterns", "rust", "test_error_handling_patterns"),
    Block("Error Handling", 3, "Validation", "rust", "test_validation"),
    Block("Best Practices", 1, "1. Choose the Right Format", "rust", "test_choose_the_right_format"),
    Block("Best Practices", 2, "2. Implement Backups", "rust", "test_implement_backups"),
    Block("Best Practices", 3, "3. Version Your Saves", "rust", "test_version_your_saves"),
    Block("Best Practices", 4, "4. Handle Errors Gracefully", "rust", "test_handle_errors_gracefully"),
    Block("Best Practices", 5, "5. Test Persistence", "rust", "test_save_load_roundtrip"),
    Block("Best Practices", 6, "6. Document Your Schema", "rust", "test_document_your_schema"),
    Block("Best Practices", 7, "7. Monitor Performance", "rust", "test_monitor_performance"),
    Block("Troubleshooting", 1, '1. "Invalid magic bytes" Error', "rust", "test_invalid_magic_bytes_error"),
    Block("Troubleshooting", 2, '2. "Unsupported version" Error', "rust", "test_unsupported_version_error"),
    Block("Troubleshooting", 3, '3. "Corrupted data" Error', "rust", "test_corrupted_data_error"),
    Block(
        "Troubleshooting", 4, "4. Slow Save/Load Performance", "rust", "test_slow_save_and_load_performance"
    ),
)
