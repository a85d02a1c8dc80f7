// One test measures allocations of the whole process.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
