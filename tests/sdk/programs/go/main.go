// Two programs around the official Go SDK, for the tests beside them.
//
//	program client               calls of the SDK's client, one JSON line each on standard input
//	program serve http|grpc PORT a service of the SDK; each event that it is given is a JSON line on standard output
package main

import (
	"fmt"
	"os"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "client":
		answers := os.Stdout
		os.Stdout = os.Stderr // the SDK prints notes of its own
		err = answerCalls(os.Stdin, answers)
	case len(os.Args) == 4 && os.Args[1] == "serve":
		err = serve(os.Args[2], "127.0.0.1:"+os.Args[3])
	default:
		err = fmt.Errorf("usage: program client | program serve http|grpc PORT")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
