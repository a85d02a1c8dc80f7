using Pcrl.Train.Torch;

namespace Pcrl.Train.Tests.Fitting;

[Collection("torch")]
public class WorkersTests
{
    [Fact]
    public void Every_worker_keeps_its_thread_and_its_random_numbers()
    {
        using var workers = new Workers(3);
        float[] Draw()
        {
            var values = new float[3];
            workers.Run(w => values[w] = TorchSharp.torch.rand([1], generator: TorchDevice.Random).item<float>());
            return values;
        }

        workers.Seed(5);
        float[] first = Draw(), second = Draw();
        workers.Seed(5);
        Assert.Equal(first, Draw());
        Assert.Equal(second, Draw());
        Assert.Equal(6, first.Concat(second).Distinct().Count());
    }

    [Fact]
    public void The_first_failure_comes_out_after_all_have_ended()
    {
        using var workers = new Workers(2);
        int ended = 0;
        Assert.Throws<InvalidDataException>(() => workers.Run(w =>
        {
            Interlocked.Increment(ref ended);
            if (w == 1)
                throw new InvalidDataException();
        }));
        Assert.Equal(2, ended);
        workers.Run(_ => Interlocked.Increment(ref ended)); // and they live on
        Assert.Equal(4, ended);
    }
}
