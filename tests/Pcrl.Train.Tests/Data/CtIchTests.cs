using Pcrl.Runtime;
using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Tests.Data;

public sealed class CtIchTests : IDisposable
{
    private const string Header = "patient,slice,intraventricular,intraparenchymal,subarachnoid,epidural,subdural,no_hemorrhage,fracture";
    private readonly string _folder = Directory.CreateTempSubdirectory().FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private void Write(params string[] lines) => File.WriteAllLines(Path.Combine(_folder, "labels.csv"), lines);

    private void Picture(string patient, int slice)
    {
        Directory.CreateDirectory(Path.Combine(_folder, patient));
        File.WriteAllBytes(Path.Combine(_folder, patient, $"{slice:D2}.jpg"), [0xFF, 0xD8]);
    }

    [Fact]
    public void ReadsScansInOrder()
    {
        Write(Header, "050,2,0,1,0,0,1,0,1", "050,1,0,0,0,0,0,1,0", "049,7,0,0,0,0,0,1,0", "051,1,0,0,0,0,0,1,0", "");
        Picture("050", 1);
        Picture("050", 2);
        Picture("049", 7);
        IReadOnlyList<CtIchScan> scans = CtIch.Load(_folder);
        Assert.Equal(["049", "050"], scans.Select(s => s.Patient));
        Assert.Equal([1, 2], scans[1].Slices.Select(s => s.Number));
        Assert.Equal([LesionKind.Haemorrhage, LesionKind.Subdural], scans[1].Slices[1].Bleeds);
        Assert.True(scans[1].Slices[1].Fracture);
    }

    [Theory]
    [InlineData("050,1,0,0,0,0,0,1")]
    [InlineData("050,1,0,0,0,0,0,1,2")]
    [InlineData("050,x,0,0,0,0,0,1,0")]
    [InlineData("050,0,0,0,0,0,0,1,0")]
    [InlineData("../etc,1,0,0,0,0,0,1,0")]
    [InlineData("050,1,0,1,0,0,0,1,0")]
    [InlineData("050,1,0,0,0,0,0,0,0")]
    public void BadLinesAreNamed(string line)
    {
        Write(Header, line);
        Picture("050", 1);
        var e = Assert.Throws<InputException>(() => CtIch.Load(_folder));
        Assert.Contains("labels.csv: line 2", e.Message);
    }

    [Fact]
    public void OtherTroubleIsNamedToo()
    {
        Assert.Contains("no such file", Assert.Throws<InputException>(() => CtIch.Load(_folder)).Message);
        Write("a,b,c");
        Assert.Contains("first line", Assert.Throws<InputException>(() => CtIch.Load(_folder)).Message);
        Write(Header, "050,1,0,0,0,0,0,1,0");
        Assert.Contains("has a picture", Assert.Throws<InputException>(() => CtIch.Load(_folder)).Message);
        Write(Header, "050,1,0,0,0,0,0,1,0", "050,1,0,0,0,0,0,1,0");
        Assert.Contains("twice", Assert.Throws<InputException>(() => CtIch.Load(_folder)).Message);
    }
}
