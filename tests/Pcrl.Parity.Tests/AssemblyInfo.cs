// Torch computes while nothing else runs: TorchSharp leaves numbers to the finalizer while libtorch reads them (Torch/Workers.cs).
[assembly: CollectionBehavior(DisableTestParallelization = true)]
