using System.Text;
using Pcrl.Runtime.Language.Native;

namespace Pcrl.Runtime.Language;

/// <summary>Turns tokens into text as they come: only whole characters are given out, though their bytes may span tokens.</summary>
internal sealed unsafe class TokenText(nint vocabulary)
{
    private readonly Decoder _decoder = Encoding.UTF8.GetDecoder();
    private byte[] _piece = new byte[256];
    private char[] _characters = [];

    /// <summary>
    /// Adds the characters that this token completes. Special tokens have no text; bytes that are not UTF-8 become U+FFFD. What is
    /// left unfinished at the end of a text is dropped by not asking for it.
    /// </summary>
    public void Append(int token, StringBuilder text)
    {
        int bytes = Write(token);
        if (bytes < 0)
        {
            _piece = new byte[-bytes];
            bytes = Write(token);
        }
        int most = Encoding.UTF8.GetMaxCharCount(bytes);
        if (_characters.Length < most)
            _characters = new char[most];
        text.Append(_characters, 0, _decoder.GetChars(_piece, 0, bytes, _characters, 0, flush: false));
    }

    private int Write(int token)
    {
        fixed (byte* start = _piece)
            return LlamaNative.TokenToPiece(vocabulary, token, start, _piece.Length, 0, special: false);
    }
}
