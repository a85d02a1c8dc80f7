using Pcrl.Runtime.Studies;
using SkiaSharp;

namespace Pcrl.Runtime.Tests.Studies;

public sealed class StudyFolderTests : IDisposable
{
    private static readonly byte[] Dicom = [.. new byte[128], .. "DICM"u8];
    private static readonly byte[] Picture = TestPictures.Grey(16, 16, _ => 1, SKEncodedImageFormat.Png);
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    private string[] List() => [.. StudyFolder.Look(_folder.Path).Studies.Select(path => Path.GetRelativePath(_folder.Path, path))];

    [Fact]
    public void Volumes_and_folders_of_images_are_studies_in_natural_order()
    {
        _folder.Write("README.md", "no study"u8.ToArray());
        _folder.Write("p10.nii.gz", [1]);
        _folder.Write("p2.nii", [1]);
        _folder.Write("p3/1.png", Picture);
        _folder.Write("p4/1.dcm", Dicom);
        _folder.Write("notes/1.txt", "no study"u8.ToArray());
        Assert.Equal(["p2.nii", "p3", "p4", "p10.nii.gz"], List());
        Assert.Equal(1, StudyFolder.Look(_folder.Path).WithoutImages);
    }

    [Fact]
    public void A_folder_of_one_study_is_a_folder_of_studies()
    {
        _folder.Write("p3/1.png", Picture);
        _folder.Write("empty/1.png", []);
        Assert.Equal(["p3"], List());
    }

    [Fact]
    public void A_folder_that_holds_slices_is_one_study_whatever_lies_below()
    {
        _folder.Write("1.png", Picture);
        _folder.Write("a/1.png", Picture);
        _folder.Write("b/1.png", Picture);
        Assert.Equal(["."], List());
    }

    [Fact]
    public void Folders_of_dicom_alone_are_series_of_one_study()
    {
        _folder.Write("DICOMDIR", "no slice"u8.ToArray());
        _folder.Write("series1/1.dcm", Dicom);
        _folder.Write("series2/1.dcm", Dicom);
        Assert.Equal(["."], List());
    }

    [Fact]
    public void Folders_of_dicom_that_name_different_studies_are_studies()
    {
        DicomBuilder.SaveWorld(_folder, (_, b) => b.Text(0x0020000D, "UI", "1.2.3.4"));
        foreach (string file in Directory.GetFiles(_folder.Path))
            _folder.Write("patient1/" + Path.GetFileName(file), File.ReadAllBytes(file));
        DicomBuilder.SaveWorld(_folder, (_, b) => b.Text(0x0020000D, "UI", "1.2.3.5"));
        foreach (string file in Directory.GetFiles(_folder.Path))
        {
            _folder.Write("patient2/" + Path.GetFileName(file), File.ReadAllBytes(file));
            File.Delete(file);
        }
        Assert.Equal(["patient1", "patient2"], List());
    }

    [Fact]
    public void One_volume_is_one_study_and_so_is_what_is_not_there()
    {
        _folder.Write("head.nii", [1]);
        Assert.Equal(["."], List());
        Assert.Equal([_folder.File("nothing")], StudyFolder.Look(_folder.File("nothing")).Studies);
    }
}
