// Checks a published log with Go's own packages for signed notes and transparency logs (golang.org/x/mod/sumdb), which
// know nothing of relay: the checkpoint's signature, every entry against the tiles, the tiles against the root, and
// that an earlier size is a beginning of the log.
//
//	main VKEY FOLDER [OLDER-SIZE OLDER-ROOT-BASE64]
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

// folder reads tiles at their C2SP tlog-tiles paths.
type folder string

func (f folder) Height() int { return height }

func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		content, err := os.ReadFile(filepath.Join(string(f), path))
		if err != nil {
			return nil, err
		}
		data[i] = content
	}
	return data, nil
}

func (f folder) SaveTiles([]tlog.Tile, [][]byte) {}

func main() {
	check(verify(os.Args[1], os.Args[2], os.Args[3:]))
}

func verify(vkey, path string, older []string) error {
	tree, err := checkpoint(vkey, path)
	if err != nil {
		return err
	}
	hashes := tlog.TileHashReader(tree, folder(path))
	for first := int64(0); first < tree.N; first += 1 << height {
		if err := bundle(path, hashes, first, tree.N); err != nil {
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

func checkpoint(vkey, path string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tlog.Tree{}, err
	}
	raw, err := os.ReadFile(filepath.Join(path, "checkpoint"))
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
func bundle(path string, hashes tlog.HashReader, first, size int64) error {
	width := size - first
	if width > 1<<height {
		width = 1 << height
	}
	tile := tlog.Tile{H: height, L: -1, N: first >> height, W: int(width)}
	name := strings.Replace(tile.Path(), "tile/8/data/", "tile/entries/", 1)
	content, err := os.ReadFile(filepath.Join(path, name))
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
	}
	if len(content) != 0 {
		return fmt.Errorf("%s goes on after its entries", name)
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
