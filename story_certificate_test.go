package main

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
)

// issued is what a story has of certificates: authorities and clients by name, and a
// server of lists of revoked ones, which knows none until they are published, and
// answers about single certificates by them.
type issued struct {
	authorities map[string]*certificatetest.Authority
	leaves      map[string]*certificatetest.Leaf
	server      *httptest.Server
	guarded     struct {
		sync.Mutex
		lists map[string][]byte // by path
	}
}

// publisher is the server of lists.
func (s *story) publisher() *httptest.Server {
	if s.issued.server == nil {
		s.issued.guarded.lists = map[string][]byte{}
		s.issued.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			name, asked := strings.CutPrefix(r.URL.Path, "/ocsp")
			s.issued.guarded.Lock()
			answer, ok := s.issued.guarded.lists[name]
			s.issued.guarded.Unlock()
			if ok && asked {
				answer, ok = s.respond(r, s.issued.authorities[name[1:]], answer)
			}
			if !ok {
				http.NotFound(w, r)
				return
			}
			_, _ = w.Write(answer)
		}))
		s.tb.Cleanup(s.issued.server.Close)
	}
	return s.issued.server
}

// respond answers an OCSP request about a certificate of a by a's list.
func (s *story) respond(r *http.Request, a *certificatetest.Authority, list []byte) ([]byte, bool) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	if err != nil {
		return nil, false
	}
	asked, err := ocsp.ParseRequest(body)
	if err != nil {
		return nil, false
	}
	published, err := x509.ParseRevocationList(list)
	if err != nil {
		return nil, false
	}
	said := ocsp.Response{Status: ocsp.Good, SerialNumber: asked.SerialNumber, ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, dead := range published.RevokedCertificateEntries {
		if dead.SerialNumber.Cmp(asked.SerialNumber) == 0 {
			said.Status, said.RevokedAt = ocsp.Revoked, dead.RevocationTime
		}
	}
	answer, err := ocsp.CreateResponse(a.Certificate, a.Certificate, said, a.Key)
	return answer, err == nil
}

// authority is the command of that name: authority NAME makes a certificate
// authority, and sets $NAME_CA to the body that uploads it.
func (s *story) authority(args []string) {
	name := s.options(flag.NewFlagSet("authority", 0), args, 1, 1)[0]
	a := certificatetest.New(s.tb, name)
	s.issued.authorities[name] = a
	s.body(name+"_CA", map[string]string{"certificate": certificatetest.PEM(a.Certificate), "comments": "of a story"})
}

// certificate is the command of that name: certificate [-point] [-responder]
// [-until DURATION] AUTHORITY NAME CN makes a client's certificate. With -point it
// says that AUTHORITY's list is at the story's server, with -responder that this
// answers about it, by the same list.
func (s *story) certificate(args []string) {
	set := flag.NewFlagSet("certificate", 0)
	point := set.Bool("point", false, "name a distribution point")
	responder := set.Bool("responder", false, "name an OCSP responder")
	until := set.Duration("until", time.Hour, "DURATION")
	args = s.options(set, args, 3, 3)
	a := s.issued.authorities[args[0]]
	if a == nil {
		s.ts.Fatalf("no authority %s", args[0])
	}
	s.issued.leaves[args[1]] = a.Issue(args[2], func(c *x509.Certificate) {
		c.NotAfter = time.Now().Add(*until)
		if *point {
			c.CRLDistributionPoints = []string{s.publisher().URL + "/" + args[0]}
		}
		if *responder {
			c.OCSPServer = []string{s.publisher().URL + "/ocsp/" + args[0]}
		}
	})
}

// revoke is the command of that name: revoke [-publish] AUTHORITY NUMBER NAME...
// signs a list of revoked certificates. It sets $AUTHORITY_CRL to the body that
// uploads it, or publishes it at the story's server.
func (s *story) revoke(args []string) {
	set := flag.NewFlagSet("revoke", 0)
	publish := set.Bool("publish", false, "at the server")
	args = s.options(set, args, 2, -1)
	number, err := strconv.ParseInt(args[1], 10, 64)
	s.ts.Check(err)
	var dead []*x509.Certificate
	for _, name := range args[2:] {
		dead = append(dead, s.issued.leaves[name].Certificate)
	}
	list := s.issued.authorities[args[0]].List(number, dead)
	if *publish {
		s.publisher()
		s.issued.guarded.Lock()
		defer s.issued.guarded.Unlock()
		s.issued.guarded.lists["/"+args[0]] = list
		return
	}
	s.body(args[0]+"_CRL", map[string]string{"crl": base64.StdEncoding.EncodeToString(list)})
}

func (s *story) body(name string, v any) {
	text, err := json.Marshal(v)
	s.ts.Check(err)
	s.ts.Setenv(strings.ToUpper(name), string(text))
}

// servercertificate is the command of that name: servercertificate AUTHORITY NAME HOST...
// makes a server's certificate, and sets $NAME_UPLOAD to the body that uploads it with
// its key.
func (s *story) servercertificate(args []string) {
	args = s.options(flag.NewFlagSet("servercertificate", 0), args, 3, -1)
	a := s.issued.authorities[args[0]]
	if a == nil {
		s.ts.Fatalf("no authority %s", args[0])
	}
	leaf := a.Issue("", func(c *x509.Certificate) {
		c.DNSNames, c.ExtKeyUsage = args[2:], []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	s.body(args[1]+"_UPLOAD", uploadOf(s.tb, leaf))
}

// uploadOf is the body that uploads a server's certificate with its key.
func uploadOf(tb testing.TB, leaf *certificatetest.Leaf) map[string]string {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(leaf.Key)
	if err != nil {
		tb.Fatal(err)
	}
	return map[string]string{
		"certificate": certificatetest.PEM(leaf.Certificate),
		"privateKey":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	}
}
