// The program only links the exports of the bindings.
package main

import _ "{{name}}/bindings/wit_exports"

func main() {}
