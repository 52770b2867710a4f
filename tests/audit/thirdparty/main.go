// Checks a published log with Go's own packages for signed notes and transparency logs (golang.org/x/mod/sumdb), for
// certificates and signatures, and with another project's for CBOR, which know nothing of relay: the checkpoint's
// signature, every entry against the tiles, the tiles against the root, and that an earlier size is a beginning of the
// log. With the election's root certificate also what belongs to each entry: its statement's signature (COSE_Sign1, RFC
// 9052), its receipt (RFC 9942), its objects.
//
//	main VKEY FOLDER-OR-URL ROOT.PEM|- [OLDER-SIZE OLDER-ROOT-BASE64]
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/fxamacker/cbor"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

// source reads a published log's files, in a folder or from a web server, tiles at their C2SP tlog-tiles paths.
type source string

func (f source) read(path string) ([]byte, error) {
	if !strings.HasPrefix(string(f), "http") {
		return os.ReadFile(filepath.Join(string(f), path))
	}
	response, err := http.Get(string(f) + "/" + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, response.Status)
	}
	return io.ReadAll(response.Body)
}

func (f source) Height() int { return height }

func (f source) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		content, err := f.read(path)
		if err != nil {
			return nil, err
		}
		data[i] = content
	}
	return data, nil
}

func (f source) SaveTiles([]tlog.Tile, [][]byte) {}

func main() {
	check(verify(os.Args[1], source(os.Args[2]), os.Args[3], os.Args[4:]))
}

func verify(vkey string, from source, rootFile string, older []string) error {
	var root *x509.Certificate
	if rootFile != "-" {
		content, err := os.ReadFile(rootFile)
		if err != nil {
			return err
		}
		block, _ := pem.Decode(content)
		if root, err = x509.ParseCertificate(block.Bytes); err != nil {
			return err
		}
	}
	tree, err := checkpoint(vkey, from)
	if err != nil {
		return err
	}
	hashes := tlog.TileHashReader(tree, from)
	for first := int64(0); first < tree.N; first += 1 << height {
		if err := bundle(from, hashes, first, tree.N, root); err != nil {
			return err
		}
	}
	if len(older) == 2 {
		if err := grown(hashes, tree, older[0], older[1]); err != nil {
			return err
		}
	}
	fmt.Printf("%d entries\n", tree.N)
	return nil
}

func checkpoint(vkey string, from source) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tlog.Tree{}, err
	}
	raw, err := from.read("checkpoint")
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(raw, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

// bundle holds an entry bundle against hashes that were proved to be under the root.
func bundle(from source, hashes tlog.HashReader, first, size int64, root *x509.Certificate) error {
	width := size - first
	if width > 1<<height {
		width = 1 << height
	}
	tile := tlog.Tile{H: height, L: -1, N: first >> height, W: int(width)}
	name := strings.Replace(tile.Path(), "tile/8/data/", "tile/entries/", 1)
	content, err := from.read(name)
	if err != nil {
		return err
	}
	for index := first; index < first+width; index++ {
		length := int(binary.BigEndian.Uint16(content))
		entry := content[2 : 2+length]
		content = content[2+length:]
		proved, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil {
			return err
		}
		if tlog.RecordHash(entry) != proved[0] {
			return fmt.Errorf("entry %d is not what the tree says", index)
		}
		if root != nil {
			if err := attached(from, hashes, entry, index, root); err != nil {
				return fmt.Errorf("entry %d: %w", index, err)
			}
		}
	}
	if len(content) != 0 {
		return fmt.Errorf("%s goes on after its entries", name)
	}
	return nil
}

// attached checks what belongs to an entry: the statement's own signature, its objects, its receipt.
func attached(from source, hashes tlog.HashReader, entry []byte, index int64, root *x509.Certificate) error {
	statement, err := open(entry, root)
	if err != nil {
		return err
	}
	if err := statement.signed(statement.Payload); err != nil {
		return err
	}
	var payload struct {
		Files []struct {
			SHA256 []byte `cbor:"sha256"`
			Size   int    `cbor:"size"`
		} `cbor:"files"`
	}
	if err := cbor.Unmarshal(statement.Payload, &payload); err != nil {
		return err
	}
	for _, file := range payload.Files {
		content, err := from.read(fmt.Sprintf("object/%x", file.SHA256))
		if err != nil {
			return err
		}
		if sum := sha256.Sum256(content); string(sum[:]) != string(file.SHA256) || len(content) != file.Size {
			return errors.New("an object is not what was signed")
		}
	}
	raw, err := from.read(fmt.Sprintf("receipt/%x", sha256.Sum256(entry)))
	if err != nil {
		return err
	}
	return receipt(raw, hashes, entry, index, root)
}

// receipt checks a COSE Receipt: its inclusion proof (RFC 9162) leads to a root of this very log, which it signs.
func receipt(raw []byte, hashes tlog.HashReader, entry []byte, index int64, root *x509.Certificate) error {
	envelope, err := open(raw, root)
	if err != nil {
		return err
	}
	var unprotected struct {
		Proofs map[int][][]byte `cbor:"396,keyasint"`
	}
	if err := cbor.Unmarshal(envelope.Unprotected, &unprotected); err != nil {
		return err
	}
	var proof struct {
		_     struct{} `cbor:",toarray"`
		Size  int64
		Index int64
		Path  [][]byte
	}
	if err := cbor.Unmarshal(unprotected.Proofs[-1][0], &proof); err != nil {
		return err
	}
	tree, err := tlog.TreeHash(proof.Size, hashes)
	if err != nil {
		return err
	}
	path := make(tlog.RecordProof, len(proof.Path))
	for i, sibling := range proof.Path {
		copy(path[i][:], sibling)
	}
	if proof.Index != index {
		return errors.New("its receipt is another entry's")
	}
	if err := tlog.CheckRecord(path, proof.Size, tree, index, tlog.RecordHash(entry)); err != nil {
		return err
	}
	return envelope.signed(tree[:])
}

// sign1 is a COSE_Sign1 whose protected header names its signer's certificate (x5chain).
type sign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected cbor.RawMessage
	Payload     []byte
	Signature   []byte
	signer      *x509.Certificate
}

// open reads an envelope, and checks that the root issued its signer's certificate. Clocks are not asked.
func open(raw []byte, root *x509.Certificate) (*sign1, error) {
	var tag cbor.RawTag
	if err := cbor.Unmarshal(raw, &tag); err != nil {
		return nil, err
	}
	var found sign1
	if err := cbor.Unmarshal(tag.Content, &found); err != nil {
		return nil, err
	}
	var header struct {
		Algorithm   int    `cbor:"1,keyasint"`
		Certificate []byte `cbor:"33,keyasint"`
	}
	if err := cbor.Unmarshal(found.Protected, &header); err != nil {
		return nil, err
	}
	signer, err := x509.ParseCertificate(header.Certificate)
	if err != nil {
		return nil, err
	}
	if header.Algorithm != -8 {
		return nil, errors.New("it is not signed with EdDSA")
	}
	found.signer = signer
	return &found, signer.CheckSignatureFrom(root)
}

// signed checks the signature over a payload (Sig_structure, RFC 9052, section 4.4).
func (s *sign1) signed(payload []byte) error {
	content, err := cbor.Marshal([]interface{}{"Signature1", s.Protected, []byte{}, payload})
	if err != nil {
		return err
	}
	if !ed25519.Verify(s.signer.PublicKey.(ed25519.PublicKey), content, s.Signature) {
		return errors.New("a signature does not hold")
	}
	return nil
}

func grown(hashes tlog.HashReader, tree tlog.Tree, size, root string) error {
	old, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return err
	}
	decoded, err := base64.StdEncoding.DecodeString(root)
	if err != nil {
		return err
	}
	var hash tlog.Hash
	copy(hash[:], decoded)
	proof, err := tlog.ProveTree(tree.N, old, hashes)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, tree.N, tree.Hash, old, hash)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
