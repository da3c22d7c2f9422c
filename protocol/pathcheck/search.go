package pathcheck

import (
	"bytes"
	"slices"
)

// search finds the path with the fewest faults. What a certificate does to a path depends on its neighbour and on how
// many CAs are below it, so it is enough to know, for each certificate and depth, the best way there: the work is
// MaxDepth × candidates², whatever the candidates are. Memory is that of the steps.
type search struct {
	now        int64
	purpose    string         // OID contents
	nodes      []*certificate // the leaf, then the candidates
	unreadable []Reason       // of candidates that are no certificates
	edges      map[[2]int][]Reason
	stopped    map[[2]int]bool // child and issuer that a CRL stopped
	signatures int             // verified so far
}

// add leaves out what is there already, so that no path holds a certificate twice.
func (s *search) add(c *certificate) {
	for _, n := range s.nodes {
		if bytes.Equal(n.der, c.der) {
			n.anchor = n.anchor || c.anchor
			return
		}
	}
	s.nodes = append(s.nodes, c)
}

// step is the best way from the leaf to one certificate at one depth.
type step struct {
	from   int      // the one below it, at the depth before
	below  int      // CAs between it and the leaf, self-issued ones not counted (RFC 5280 section 6.1.4 l)
	faults []Reason // all up to here
}

// best returns the indexes of the best path, leaf first, and its faults; no path if there is none to an anchor.
func (s *search) best() (path []int, faults []Reason) {
	leaf := s.nodes[0]
	start := slices.Concat(s.common(leaf), leaf.checkPurpose(s.purpose))
	if leaf.anchor {
		return []int{0}, slices.Concat(start, s.anchor(0))
	}
	layers := []map[int]step{{0: {from: -1, faults: start}}}
	end := -1
	var length int
	for len(layers) < MaxDepth && len(layers[len(layers)-1]) > 0 {
		layer := s.extend(layers[len(layers)-1])
		layers = append(layers, layer)
		for i := range s.nodes {
			if st, reached := layer[i]; reached && s.nodes[i].anchor && (end < 0 || len(st.faults) < len(faults)) {
				end, length, faults = i, len(layers), st.faults
			}
		}
		if end >= 0 && len(faults) == 0 {
			break
		}
	}
	if end < 0 {
		return nil, s.noPath(layers)
	}
	for d, i := length-1, end; d >= 0; d-- {
		path = append(path, i)
		i = layers[d][i].from
	}
	slices.Reverse(path)
	return path, faults
}

// extend goes one step up from each certificate but the anchors.
func (s *search) extend(layer map[int]step) map[int]step {
	next := map[int]step{}
	for i, child := range s.nodes {
		st, reached := layer[i]
		if !reached || child.anchor {
			continue
		}
		below := st.below
		if i != 0 && !child.selfIssued() {
			below++
		}
		for j := 1; j < len(s.nodes); j++ {
			issuer := s.nodes[j]
			if j == i || s.stopped[[2]int{i, j}] || !bytes.Equal(child.issuer, issuer.subject) {
				continue
			}
			faults := slices.Concat(st.faults, s.edge(i, j))
			if issuer.pathLen >= 0 && below > issuer.pathLen {
				faults = append(faults, issuer.refuse(PathLength, "%d CAs are below it, at most %d are allowed", below, issuer.pathLen))
			}
			best, known := next[j]
			if !known || len(faults) < len(best.faults) || len(faults) == len(best.faults) && below < best.below {
				next[j] = step{from: i, below: below, faults: faults}
			}
		}
	}
	return next
}

// edge tells what is wrong with issuer j for child i, path length apart.
func (s *search) edge(i, j int) []Reason {
	if faults, known := s.edges[[2]int{i, j}]; known {
		return faults
	}
	issuer := s.nodes[j]
	faults := slices.Concat(s.signed(i, j), s.common(issuer), issuer.checkPurpose(s.purpose))
	if !issuer.isCA {
		faults = append(faults, issuer.refuse(NotCA, "it issued a certificate, but is no CA"))
	}
	if issuer.anchor {
		faults = append(faults, s.anchor(j)...)
	}
	s.edges[[2]int{i, j}] = faults
	return faults
}

// common tells what is wrong with a certificate in any place.
func (s *search) common(c *certificate) []Reason {
	return slices.Concat(c.problems, c.checkTime(s.now))
}

// anchor tells what is wrong with a certificate as the end of a path.
func (s *search) anchor(i int) []Reason {
	c := s.nodes[i]
	if !c.selfIssued() {
		return []Reason{c.refuse(Anchor, "trust is put in it, but it is not self-signed")}
	}
	return s.signed(i, i)
}

// signed tells whether issuer j signed child i, by key identifiers first: those of another key need no arithmetic.
func (s *search) signed(i, j int) []Reason {
	child, issuer := s.nodes[i], s.nodes[j]
	if r := namesKey(child, issuer); r != nil {
		return r
	}
	if s.signatures++; s.signatures > maxSignatures {
		return []Reason{child.refuse(Limit, "more than %d signatures to verify: too many CAs have the same name and key identifier", maxSignatures)}
	}
	return verifySignature(child, issuer)
}

// namesKey tells whether the child's authority key identifier is that of the issuer (RFC 5280 section 4.2.1.1).
func namesKey(child, issuer *certificate) []Reason {
	switch {
	case len(child.issuerKeyID) > 0 && !bytes.Equal(child.issuerKeyID, issuer.subjectKeyID),
		len(child.issuerSerial) > 0 && !bytes.Equal(child.issuerSerial, issuer.serial),
		len(child.issuerNames) > 0 && !namesIssuer(child.issuerNames, issuer.issuer):
		return []Reason{child.refuse(KeyIdentifierDiffer, "its authority key identifier is not that of %s", issuer.name)}
	}
	return nil
}

func verifySignature(child, issuer *certificate) []Reason {
	if !child.scheme.verify(issuer.public, child.tbs, child.signature) {
		return []Reason{child.refuse(Signature, "it is not signed by the key of %s", issuer.name)}
	}
	return nil
}

// noPath says where the ways up end.
func (s *search) noPath(layers []map[int]step) []Reason {
	if len(layers[len(layers)-1]) > 0 {
		return []Reason{refuse(NoPath, "no path of at most %d certificates leads from the leaf to a trust anchor", MaxDepth)}
	}
	for i := range s.nodes {
		for d := range layers {
			if st, reached := layers[d][i]; reached && s.isEnd(i) {
				why := "its issuer is not among the certificates given"
				if s.nodes[i].selfIssued() {
					why = "it ends the path, but is not a trust anchor"
				}
				return append(slices.Clone(st.faults), s.nodes[i].refuse(NoPath, "%s", why))
			}
		}
	}
	return []Reason{refuse(NoPath, "no other path leads from the leaf to a trust anchor")}
}

// isEnd tells whether nothing given can be the issuer of i.
func (s *search) isEnd(i int) bool {
	for j := 1; j < len(s.nodes); j++ {
		if j != i && bytes.Equal(s.nodes[i].issuer, s.nodes[j].subject) {
			return false
		}
	}
	return true
}

func (s *search) chain(path []int) [][]byte {
	chain := make([][]byte, len(path))
	for i, n := range path {
		chain[i] = bytes.Clone(s.nodes[n].der)
	}
	return chain
}
