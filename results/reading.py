"""How the rows of parts and compact files become one table, each counted once.

Parts are read before the manifest: what a compaction moves meanwhile is then seen twice, never not at all.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from results.files import read_parquet
from results.layout import Generation, Layout
from results.schema import TABLES
from results.standing import PART, Standing, Standings

Best = Mapping[str, tuple[Standing, int]]
ORIGIN = "__part"  # in compact files of the tables written by name: the part that a row came from


def trial_rows(
    layout: Layout, standings: Standings, table: str, schema: pa.Schema, keys: Collection[str] | None
) -> pa.Table:
    """The rows of a table committed with trials, of all trials or of `keys`.

    Raises:
        FileNotFoundError: a trial was committed anew, or compacted, while its rows were being read.

    """
    listed = layout.parts("trials")
    if keys is not None:
        listed = {key: signature for key, signature in listed.items() if key in keys}
    parts = standings.parts(listed)
    present = listed if table == "trials" else layout.parts(table)
    rows = {key: list(read_parquet(layout.part(table, key), schema)) for key in listed if key in present}
    generations = layout.generations()
    best = standings.best(generations, parts)
    now = layout.parts("trials")
    if any(best[key][1] == PART and now.get(key) != signature for key, signature in listed.items()):
        raise FileNotFoundError
    found = [schema.empty_table()]
    for index, generation in enumerate(generations):
        found += compacted_rows(layout, table, schema, (generation, index), best, keys)
    for key, tables in rows.items():
        if best[key][1] == PART:
            found += tables
    return pa.concat_tables(found)


def compacted_rows(
    layout: Layout,
    table: str,
    schema: pa.Schema,
    place: tuple[Generation, int],
    best: Best,
    keys: Collection[str] | None = None,
    strict: bool = False,
) -> Iterator[pa.Table]:
    """The rows of one generation, at the index it has in `best`, that stand; of all trials or of `keys`."""
    generation, index = place
    if table not in generation.files:
        return
    full = schema if "trial_key" in schema.names else schema.append(pa.field("trial_key", pa.string()))
    chosen = [key for key, (_, at) in best.items() if at == index and (keys is None or key in keys)]
    keep = ("trial_key", pa.array(chosen, pa.string()))
    for rows in read_parquet(layout.compact(generation.files[table]), full, keep=keep, strict=strict):
        yield rows.select(schema.names)


def named_rows(
    layout: Layout,
    table: str,
    generations: Sequence[Generation] | None = None,
    names: Collection[str] | None = None,
    strict: bool = False,
) -> pa.Table:
    """The rows of a table written by name, with the column ORIGIN; what was written last under a name counts.

    `generations` and `names` are those to be read; by default all that count.
    """
    schema = TABLES[table].schema
    found = []
    for name in layout.parts(table) if names is None else names:
        for rows in read_parquet(layout.part(table, name), schema, strict=strict):
            found.append(rows.append_column(ORIGIN, pa.array([name] * rows.num_rows, pa.string())))
    schema = schema.append(pa.field(ORIGIN, pa.string()))
    newest = pa.concat_tables([schema.empty_table(), *found])
    for generation in reversed(layout.generations() if generations is None else generations):
        if table in generation.files:
            rows = pa.concat_tables(
                [schema.empty_table(), *read_parquet(layout.compact(generation.files[table]), schema, strict=strict)]
            )
            newer = pc.is_in(rows[ORIGIN], value_set=newest[ORIGIN].combine_chunks())
            newest = pa.concat_tables([rows.filter(pc.invert(newer)), newest])
    return newest
