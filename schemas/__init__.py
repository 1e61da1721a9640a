"""The contract every part of fovea shares, without torch and without any of our other packages.

Vocabulary, used everywhere with these meanings:

* *question* – one question on one or more images, with its gold answer and, where known, regions.
* *region* – a box an expert or an annotation points at; its index in a trajectory is its id.
* *step* – one scan or one drill of an expert; a *look* is a step (or a policy action) with a box.
* *trajectory* – the ordered steps of one search; *variant* 0 is plain GRN, 1…6 come from CVS.
* *stream* – who wrote a trajectory: ``policy`` or ``expert``.
* *shard* – a unit of work; a *part* is a published Parquet file; a *slice* is all parts of one build.
* *table*, *manifest*, *store* – Parquet rows of one kind, the immutable list of parts, the folder of both.
"""
