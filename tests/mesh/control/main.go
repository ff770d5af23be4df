// Command control is a tailnet for tests: a coordination server, a DERP relay and STUN, made of
// Tailscale's own test packages, on one address of this machine.
//
//	control -key-file FILE [-listen 127.0.0.1] [-lifetime 10m] [-with-stdin]
//
// It prints one line of JSON (url, port, derp_port) when it serves. It ends after its lifetime, and with
// its standard input if that is wished. GET /ocaptain/nodes lists who joined, and how many registrations came;
// POST /ocaptain/keys/needless lets machines register without the key, POST /ocaptain/keys/needed no longer.
package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"tailscale.com/derp/derpserver"
	"tailscale.com/net/stun"
	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

// node is what GET /ocaptain/nodes tells of a machine.
type node struct {
	NodeID   string   `json:"nodeId"`
	Hostname string   `json:"hostname"`
	Tags     []string `json:"tags"`
}

func main() {
	keyFile := flag.String("key-file", "", "file that holds the key machines join by")
	listen := flag.String("listen", "127.0.0.1", "address to serve on")
	lifetime := flag.Duration("lifetime", 10*time.Minute, "end after so long")
	withStdin := flag.Bool("with-stdin", false, "end when standard input ends")
	flag.Parse()
	if err := serve(*keyFile, *listen, *lifetime, *withStdin); err != nil {
		log.Fatal(err)
	}
}

func serve(keyFile, address string, lifetime time.Duration, withStdin bool) error {
	secret, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	relay, derpPort, err := serveRelay(address)
	if err != nil {
		return err
	}
	defer relay.Close()
	stunPort, err := serveSTUN(address)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return err
	}
	url := "http://" + listener.Addr().String()
	var registrations atomic.Int64
	control := &testcontrol.Server{
		Logf:            logger.Discard,
		DERPMap:         derpMap(address, derpPort, stunPort),
		RequireAuthKey:  string(bytes.TrimSpace(secret)),
		ExplicitBaseURL: url,
		AllOnline:       true,
		MaybeRateLimitRegister: func() (bool, string, string) {
			registrations.Add(1)
			return false, "", ""
		},
	}
	mux := http.NewServeMux()
	mux.Handle("/", control)
	mux.HandleFunc("GET /ocaptain/nodes", func(w http.ResponseWriter, _ *http.Request) {
		nodes := []node{}
		for _, one := range control.AllNodes() {
			nodes = append(nodes, node{string(one.StableID), one.Hostinfo.Hostname(), one.Tags})
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"nodes": nodes, "registrations": registrations.Load()})
	})
	// Machines that are known come back without a key in reality; the test package asks each of them for it.
	mux.HandleFunc("POST /ocaptain/keys/{needed}", func(w http.ResponseWriter, r *http.Request) {
		control.RequireAuthKey = ""
		if r.PathValue("needed") == "needed" {
			control.RequireAuthKey = string(bytes.TrimSpace(secret))
		}
		w.WriteHeader(http.StatusNoContent)
	})
	failed := make(chan error, 1)
	go func() { failed <- http.Serve(listener, mux) }()
	port := listener.Addr().(*net.TCPAddr).Port
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"url": url, "port": port, "derp_port": derpPort}); err != nil {
		return err
	}
	ended := make(chan struct{})
	if withStdin {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			close(ended)
		}()
	}
	select {
	case err := <-failed:
		return err
	case <-ended:
	case <-time.After(lifetime):
	}
	return nil
}

// serveRelay starts a DERP server with a certificate that nobody knows.
func serveRelay(address string) (*httptest.Server, int, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return nil, 0, err
	}
	mux := http.NewServeMux()
	mux.Handle("/derp", derpserver.Handler(derpserver.New(key.NewNode(), logger.Discard)))
	mux.HandleFunc("/derp/latency-check", derpserver.ProbeHandler)
	mux.HandleFunc("/derp/probe", derpserver.ProbeHandler)
	server := httptest.NewUnstartedServer(mux)
	server.Listener.Close()
	server.Listener = listener
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	server.StartTLS()
	return server, listener.Addr().(*net.TCPAddr).Port, nil
}

// serveSTUN answers binding requests.
func serveSTUN(address string) (int, error) {
	packets, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(address)})
	if err != nil {
		return 0, err
	}
	go func() {
		buffer := make([]byte, 1<<16)
		for {
			n, from, err := packets.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			if id, err := stun.ParseBindingRequest(buffer[:n]); err == nil {
				packets.WriteToUDPAddrPort(stun.Response(id, netip.AddrPortFrom(from.Addr().Unmap(), from.Port())), from)
			}
		}
	}()
	return packets.LocalAddr().(*net.UDPAddr).Port, nil
}

func derpMap(address string, derpPort, stunPort int) *tailcfg.DERPMap {
	relay := &tailcfg.DERPNode{
		Name:             "1a",
		RegionID:         1,
		HostName:         address,
		IPv4:             address,
		IPv6:             "none",
		STUNPort:         stunPort,
		DERPPort:         derpPort,
		InsecureForTests: true,
		STUNTestIP:       address,
	}
	region := &tailcfg.DERPRegion{RegionID: 1, RegionCode: "test", RegionName: fmt.Sprintf("test on %s", address), Nodes: []*tailcfg.DERPNode{relay}}
	return &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{1: region}}
}
