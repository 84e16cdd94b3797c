package message

// Forget drops what a decoded message remembers of its signed elements, so that
// they are built from its fields.
func Forget(request *Request, response *Response) {
	if request != nil {
		request.signed = nil
	}
	if response != nil {
		response.signed = nil
	}
}
