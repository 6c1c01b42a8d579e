"""The same world in pecs_np and in other ways to do it, side by side.

``python -m asv_benchmarks.peers`` in the top folder of the repository measures, prints a table in
Markdown and draws ``asv_benchmarks/peers.svg``. What is not installed is left out, with the name of
its package; ``pip install --group peers`` installs all but mesa-frames, whose metadata asks for an
older NumPy than it needs: ``pip install --no-deps mesa-frames``.

What is measured
    n entities with a position and a velocity, two float32 each, from a seed.

    create
        From the given arrays. Who keeps arrays or a frame copies them, who keeps objects makes them
        of Python's floats, which are doubles.
    step
        ``position += velocity * dt``, once. Another step goes before it and is not timed, as the
        first one fills the caches of queries.
    save
        To a file that is not there yet. Only ``pecs_np, durable`` flushes it to the disk.
    load
        Of that file, which is in the page cache. All columns are read: nothing is mapped or left
        for later.

How
    Each peer in a process of its own for each n. After one round to warm up there are as many as
    were asked for, each with all four verbs on a new world; the best and the median of each verb
    count. What is loaded is compared with what was saved, and what was stepped with NumPy's own
    result, outside the timed parts: a peer that loses data is an error. The garbage collector runs
    as Python has it, and once more between timed parts. Nothing is compressed: random floats do
    not get smaller. Peak memory is taken in two more processes, one that creates, steps and saves
    and one that only loads; the imports and the given arrays are not counted.

What is saved
    Four columns, and nothing more, by arrays and frames. pecs_np saves stable ids, a schema and a
    checksum too, mesa-frames its column of ids, esper, tcod-ecs and mesa whatever their objects hold.

Each peer is a module of ``worlds``, written as its users would write it well.
"""
